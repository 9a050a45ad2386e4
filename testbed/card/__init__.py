"""Virtual plastic cards: an issuing authority, PIV and PKOC cards, hostile ones, and how they come to a reader."""
