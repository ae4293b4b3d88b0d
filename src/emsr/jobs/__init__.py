"""One file a verb: the only room that sees all the others."""
