"""Stage `pretrain`: one continual pretraining of an encoder on N samples of a cohort."""
