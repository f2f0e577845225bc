"""Extraction: find sequences, encode them, trace the decoder, write stores; one by one or on a Dask cluster."""
