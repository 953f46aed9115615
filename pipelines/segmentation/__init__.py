"""Segmentation of lines, tubes and any mask set on frozen patch features: rasters, heads, metrics, DICOM SEG."""
