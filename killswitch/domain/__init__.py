"""Ground floor: pure, synchronous, standard library only. Everything is decided here."""
