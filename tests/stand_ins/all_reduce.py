"""Adds up the ranks of all processes, as gloo's all-reduce does: they meet at MASTER_ADDR and MASTER_PORT."""

import os
import socket
import time

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if rank == 0:
    with socket.create_server(address) as server:
        peers = [server.accept()[0] for _ in range(1, size)]
        total = sum(int(peer.makefile().readline()) for peer in peers)
        for peer in peers:
            peer.sendall(f"{total}\n".encode())
            peer.close()
else:
    while True:
        try:
            peer = socket.create_connection(address)
            break
        except ConnectionRefusedError:  # the first process is not there yet
            time.sleep(0.05)
    peer.sendall(f"{rank}\n".encode())
    total = int(peer.makefile().readline())
# One write, so that the lines of processes do not mix.
os.write(1, f"rank {rank} of {size}, local {os.environ['LOCAL_RANK']}, sum {total}\n".encode())
