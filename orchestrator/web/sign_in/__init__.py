"""The addresses below `/auth/`: pages by which users sign in, and services that viewers call."""
