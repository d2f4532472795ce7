"""Pure functions that decide over values, the time included. This room has no clock, thread, socket or event loop."""
