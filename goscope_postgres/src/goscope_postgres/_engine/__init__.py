"""Runs SQL: connections, batches, notifications, and the errors of the driver."""
