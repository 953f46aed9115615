"""Similarity maps: how alike an encoder finds a chosen patch and every other, at four depths, models side by side."""
