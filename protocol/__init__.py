"""What gate and controller say to each other: events, topics, acknowledgements, the MQTT client. Imports no other package."""
