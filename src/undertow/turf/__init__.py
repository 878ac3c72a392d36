"""From a failure back to the training rows: crux, retrieval, triggers, explanation."""
