"""Value types of the package: what a stream, a picture and a frame's priors are. Pure numpy, no input or output."""
