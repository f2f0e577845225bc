"""Degradation of clean clips: blur, resizing, noise and JPEG by recipe, the same for all frames but the noise."""
