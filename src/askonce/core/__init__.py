"""What decides: pure functions over values, the time among them. No clock, thread, socket or event loop in here."""
