"""Networks that take coding priors, and how stores reach them; imported as ``codecprior.model``, needs torch."""
