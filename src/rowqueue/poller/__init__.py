"""The poller: one tick looks at the queue and at the tasks, and starts as many tasks as the work needs."""
