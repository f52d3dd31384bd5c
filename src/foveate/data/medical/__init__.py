"""Medical images: NIfTI, DICOM and pictures, by patient, and a synthetic sample."""
