"""VVenC, VVdeC and a tracing VVdeC as subprocesses: options become argument lists, output becomes Python values.

Usable without the rest of codecprior but for its errors and value types; knows nothing of files of priors.
"""
