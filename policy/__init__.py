"""Access rules, decision and refusal reasons as pure functions. Imports no other package of this project."""
