"""Public sets by one name each, as cards of models and marks of cohorts write them."""

NIH, CHEXPERT, MIMIC = "NIH ChestX-ray14", "CheXpert", "MIMIC-CXR"
PADCHEST, BRAX, VINDR = "PadChest", "BRAX", "VinDr-CXR"
RANZCR, CANDID, RSNA = "RANZCR CLiP", "CANDID-PTX", "RSNA Pneumonia"
# Sets whose images come from another one: who saw that one saw these.
IMAGES_FROM = {RANZCR: (NIH,), RSNA: (NIH,)}


def share_images(first: str, second: str) -> bool:
    """Whether two sets are the same, or one's images come from the other."""
    return first == second or second in IMAGES_FROM.get(first, ()) or first in IMAGES_FROM.get(second, ())
