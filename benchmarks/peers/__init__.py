"""Other libraries, run with our protocol in an environment of their own."""
