"""What a preference data set will teach: concepts, global and local audits, controls, predicted effects."""
