package org.example.web;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.util.stream.Collectors;

/** Connections that the application makes itself. */
final class Outbound {
    private static final int TIMEOUT_MS = 5000;

    private Outbound() {}

    /** Tries a TCP connection to {@code HOST:PORT}; one line says how it went and how long it took. */
    static String connect(String to) {
        int colon = to == null ? -1 : to.lastIndexOf(':');
        if (colon < 1) {
            return "usage: /connect?to=HOST:PORT";
        }
        long start = System.nanoTime();
        String outcome;
        try (Socket socket = new Socket()) {
            InetSocketAddress address =
                    new InetSocketAddress(to.substring(0, colon), Integer.parseInt(to.substring(colon + 1)));
            if (address.isUnresolved()) {
                throw new UnknownHostException("no address is known for " + to.substring(0, colon));
            }
            socket.connect(address, TIMEOUT_MS);
            outcome = "connected to " + to + " in %d ms";
        } catch (IOException | IllegalArgumentException e) {
            outcome = "not connected to " + to + " after %d ms: " + e.getMessage();
        }
        return outcome.replace("%d", Long.toString((System.nanoTime() - start) / 1_000_000));
    }

    /** Sends one line, and returns everything that comes back. */
    static String ask(String host, int port, String line) throws IOException {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress(host, port), TIMEOUT_MS);
            socket.setSoTimeout(TIMEOUT_MS);
            socket.getOutputStream().write((line + "\n").getBytes(StandardCharsets.UTF_8));
            BufferedReader reader =
                    new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
            return reader.lines().collect(Collectors.joining("\n"));
        }
    }
}
