"""delay_frames.py DEVICE DEVICE MILLISECONDS: a wire that takes its time.

Copies each Ethernet frame from one device to the other that much later; needs to be root. For kernels without netem.
"""
import socket
import struct
import sys
import threading
import time

ETH_P_ALL = 3
FRAME_BYTES_MAX = 65536
PACKET_OUTGOING = 4
# The kernel says when a frame came, so that those that queue behind a sleeping thread are not delayed twice.
SO_TIMESTAMPNS = 35


def open_device(device: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
    opened.bind((device, ETH_P_ALL))
    return opened


def carry(source: socket.socket, sink: socket.socket, delay_s: float) -> None:
    while True:
        frame, ancillary, _, address = source.recvmsg(FRAME_BYTES_MAX, 64)
        if address[2] == PACKET_OUTGOING:
            continue  # what the other thread sent
        seconds, nanoseconds = struct.unpack("ll", ancillary[0][2][:16])
        wait = seconds + nanoseconds / 1e9 + delay_s - time.time()
        if wait > 0:
            time.sleep(wait)
        try:
            sink.send(frame)
        except OSError as error:
            print(f"delay_frames: {error} ({len(frame)} bytes)", file=sys.stderr, flush=True)


def main() -> None:
    # Else each thread would hold the interpreter for 5 ms, fifteen times the delay we are here for.
    sys.setswitchinterval(0.00005)
    ends = [open_device(device) for device in sys.argv[1:3]]
    delay_s = float(sys.argv[3]) / 1000
    threading.Thread(target=carry, args=(ends[1], ends[0], delay_s), daemon=True).start()
    carry(ends[0], ends[1], delay_s)


if __name__ == "__main__":
    main()
