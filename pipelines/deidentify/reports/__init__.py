"""The text half of de-identification: report intake, scrubbing with the paired header's identities, surrogates."""
