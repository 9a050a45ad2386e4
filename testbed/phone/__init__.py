"""The holder's phone: wallet, consent and its side of BLE, NFC and QR."""
