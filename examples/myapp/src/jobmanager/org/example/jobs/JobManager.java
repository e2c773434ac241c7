package org.example.jobs;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Keeps a list of jobs for whoever asks over localhost.
 *
 * <p>One line in, lines out: {@code ADD name} answers {@code added}, {@code LIST} answers every job
 * on a line of its own and their number. Listens on the loopback address only: the web application
 * beside it is the one that talks to it.
 */
public final class JobManager {
    private final List<String> jobs = new ArrayList<>();

    private JobManager() {}

    public static void main(String[] args) throws IOException {
        if (args.length != 1) {
            System.err.println("usage: java -jar jobmanager.jar PORT");
            System.exit(64);
        }
        new JobManager().listen(Integer.parseInt(args[0]));
    }

    private void listen(int port) throws IOException {
        try (ServerSocket server = new ServerSocket(port, 50, InetAddress.getLoopbackAddress())) {
            System.out.println("job manager: listening on " + server.getLocalSocketAddress());
            while (true) {
                Socket client = server.accept();
                new Thread(() -> serve(client)).start();
            }
        }
    }

    private void serve(Socket client) {
        try (client) {
            client.setSoTimeout(5000);
            BufferedReader reader =
                    new BufferedReader(new InputStreamReader(client.getInputStream(), StandardCharsets.UTF_8));
            String line = reader.readLine();
            if (line != null) {
                client.getOutputStream().write((answer(line) + "\n").getBytes(StandardCharsets.UTF_8));
            }
        } catch (IOException e) {
            System.err.println("job manager: " + e.getMessage());
        }
    }

    private synchronized String answer(String line) {
        if (line.startsWith("ADD ")) {
            String job = line.substring(4).strip();
            jobs.add(job);
            System.out.println("job manager: added " + job);
            return "added " + job;
        }
        if (line.equals("LIST")) {
            List<String> lines = new ArrayList<>(jobs);
            lines.add(jobs.size() + " jobs");
            return String.join("\n", lines);
        }
        return "unknown request";
    }
}
