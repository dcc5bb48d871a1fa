"""The processor: claims batches, delivers their entries over mutual TLS, settles the outcomes."""
