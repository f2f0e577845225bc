"""Pictures of coding priors: colour maps, overlays on the frame, labelled panels, PNG files and MP4 clips."""
