#!/usr/bin/env bash
# Other DICOM software that reads what de-identification writes (dcmtk, dicom3tools, gdcm) and tesseract, which judges
# burned-in text: found on the machine, else installed where that needs no password. Tests that need them say so.
set -euo pipefail
for name in dcmdump dciodvfy gdcminfo tesseract; do
  command -v "$name" >/dev/null || missing=1
done
if [ -z "${missing:-}" ]; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing dcmtk, dicom3tools, gdcm and tesseract for the tests (apt-get)"
  apt-get update -qq >/dev/null 2>&1 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq dcmtk dicom3tools libgdcm-tools tesseract-ocr >/dev/null 2>&1 ||
    echo "they could not be installed; the tests that need them are skipped"
else
  echo "dcmtk, dicom3tools, gdcm or tesseract is missing; the tests that need them are skipped"
fi
