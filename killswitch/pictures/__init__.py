"""Pictures for people: pages that stand alone in one file, without scripts and without anything from elsewhere."""
