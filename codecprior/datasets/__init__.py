"""Datasets for restoration: layouts and pairs, degradation, blur synthesis, manifests, and reading clips with priors."""
