#!/usr/bin/perl
# A web server in one file, for a bare Debian: perl-base is all it needs.
#
#   GET /                      "Hello, sandbox"
#   GET /connect?to=HOST:PORT  tries to connect there, and says what happened and how long it took
#   GET /env                   the environment, one NAME=value a line
#   GET /whoami                uid, gid, pid and the host name
#   GET /exit                  ends the server with exit code 3 (to watch it being restarted)
use strict;
use warnings;
use IO::Socket::IP;

my $port = $ENV{PORT} || 80;
my $timeout = 5;    # seconds that an outbound connection may take
$| = 1;

# A clock in milliseconds. Time::HiRes is not part of perl-base, so it may be missing.
my $now = eval { require Time::HiRes; 1 } ? sub { 1000 * Time::HiRes::time() } : sub { 1000 * time };

my $main = $$;
$SIG{TERM} = $SIG{INT} = sub { exit 0 };
$SIG{CHLD} = 'IGNORE';
$SIG{PIPE} = 'IGNORE';
$SIG{USR1} = sub { exit 3 };

# For both families at once where there is IPv6.
my %common = (LocalPort => $port, Listen => 64, ReuseAddr => 1);
my $listener = IO::Socket::IP->new(LocalHost => '::', V6Only => 0, %common)
    || IO::Socket::IP->new(LocalHost => '0.0.0.0', %common)
    or die "hello: cannot listen on port $port: $@\n";
print "hello: listening on port $port\n";

while (1) {
    my $client = $listener->accept or next;
    my $child = fork;
    if (!defined $child) {
        # No process to be had (the limit of the sandbox, perhaps): say so instead of hanging.
        reply($client, '503 Service Unavailable', "cannot fork: $!\n");
    } elsif ($child == 0) {
        $SIG{TERM} = $SIG{INT} = $SIG{USR1} = 'DEFAULT';
        close $listener;
        serve($client);
        exit 0;
    }
    close $client;
}

# Answers one request.
sub serve {
    my ($client) = @_;
    alarm 30;
    my $request = <$client> // return;
    while (defined(my $header = <$client>)) { last if $header =~ /^\r?\n$/ }
    my ($path, $query) = $request =~ m{^(?:GET|HEAD) ([^ ?]+)(?:\?(\S*))? HTTP/1\.[01]}
        or return reply($client, '400 Bad Request', "not a request that I understand\n");
    print "hello: GET $path", (defined $query ? "?$query" : ''), "\n";

    if ($path eq '/') {
        reply($client, '200 OK', "Hello, sandbox\n");
    } elsif ($path eq '/connect') {
        my ($host, $to) = ($query // '') =~ /^to=\[?([^\]]+?)\]?:(\d+)$/
            or return reply($client, '400 Bad Request', "usage: /connect?to=HOST:PORT\n");
        reply($client, '200 OK', try_connect($host, $to));
    } elsif ($path eq '/env') {
        reply($client, '200 OK', join '', map { "$_=$ENV{$_}\n" } sort keys %ENV);
    } elsif ($path eq '/whoami') {
        open(my $file, '<', '/proc/sys/kernel/hostname');
        my $name = $file ? <$file> : "?\n";
        reply($client, '200 OK', "uid $<\ngid " . (split ' ', $()[0] . "\npid $main\nhost $name");
    } elsif ($path eq '/exit') {
        reply($client, '200 OK', "bye\n");
        kill 'USR1', $main;
    } else {
        reply($client, '404 Not Found', "nothing here\n");
    }
}

# One line: "connected", "refused" or the system's words, with the time that it took.
sub try_connect {
    my ($host, $to) = @_;
    my $start = $now->();
    my $socket = IO::Socket::IP->new(
        PeerHost => $host, PeerPort => $to, Type => SOCK_STREAM, Timeout => $timeout);
    my $error = $@ || "$!";
    my $took = sprintf '%.0f ms', $now->() - $start;
    return "connected to $host:$to in $took\n" if $socket;
    return "not connected to $host:$to after $took: $error\n";
}

sub reply {
    my ($client, $status, $body) = @_;
    print $client "HTTP/1.1 $status\r\nContent-Type: text/plain; charset=utf-8\r\n",
        'Content-Length: ', length $body, "\r\nConnection: close\r\n\r\n", $body;
}
