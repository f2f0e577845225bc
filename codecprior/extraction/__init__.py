"""Extraction: find sequences, encode them, trace the decoder, write stores; one after the other or on a Dask cluster."""
