"""Benchmarks of codecprior: ratios of things measured side by side in one run, medians with their spread.

``python -m benchmarks`` runs all; results go to ``benchmarks/results`` as JSON with a description of the machine.
"""
