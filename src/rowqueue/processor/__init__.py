"""The processor: claims blocks of entries, delivers them over mutual TLS, settles the outcomes."""
