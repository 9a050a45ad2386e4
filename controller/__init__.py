"""The building controller: takes in what gates record, keeps it, acknowledges it, and shows the building live."""
