"""Makes one call of the key provider service with Python's gRPC.

client.py TARGET WrapKey|UnWrapKey [AUTHORITY]    the message on standard input, the answer on standard output
"""

import sys

import grpc


def encode(message: bytes) -> bytes:
    """The one field of the request, number 1, as protobuf has it."""
    length, left = bytearray(), len(message)
    while left >= 0x80:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return b"\x0a" + bytes(length) + message


def decode(answer: bytes) -> bytes:
    """The one field of the answer."""
    begin = next(index for index in range(1, len(answer)) if answer[index] < 0x80)
    return answer[begin + 1 :]


target, method, *authority = sys.argv[1:]
# For a Unix socket, gRPC names the socket's path as authority, which is no host's name.
options = [("grpc.default_authority", name) for name in authority]
with grpc.insecure_channel(target, options=options) as channel:
    call = channel.unary_unary(f"/keyprovider.KeyProviderService/{method}", request_serializer=encode, response_deserializer=decode)
    sys.stdout.buffer.write(call(sys.stdin.buffer.read(), timeout=20))
