"""The poller: a tick observes the queue and the tasks, decides how many tasks to launch, and acts."""
