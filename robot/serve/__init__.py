"""Policy server and client: a robot computer asks another process, or another machine, for chunks. Neither imports torch by itself."""
