package org.example.web;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;

/**
 * The whole web application, answering in plain text.
 *
 * <pre>
 * /                      a greeting with the version
 * /housekeeping          what the cron job calls; counts how often
 * /housekeeping/count    how often that was
 * /jobs                  the jobs, asked of the job manager
 * /jobs?add=NAME         hands a job to the job manager
 * /connect?to=HOST:PORT  tries an outbound connection and says what happened, and how long it took
 * /env                   the names of the environment's variables, and who this process is
 * </pre>
 */
public class Front extends HttpServlet {
    private static final long serialVersionUID = 1;

    private final AtomicInteger housekeepings = new AtomicInteger();

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String answer;
        switch (request.getServletPath()) {
            case "/":
                answer = "Hello from myapp " + version();
                break;
            case "/housekeeping":
                answer = housekeeping(request.getRemoteAddr());
                break;
            case "/housekeeping/count":
                answer = Integer.toString(housekeepings.get());
                break;
            case "/jobs":
                answer = jobs(request.getParameter("add"), response);
                break;
            case "/connect":
                answer = Outbound.connect(request.getParameter("to"));
                break;
            case "/env":
                answer = environment();
                break;
            default:
                response.setStatus(HttpServletResponse.SC_NOT_FOUND);
                answer = "nothing here";
        }
        response.setContentType("text/plain");
        response.setCharacterEncoding("UTF-8");
        response.getWriter().println(answer);
    }

    /** The version that the build wrote into the war. */
    private static String version() throws IOException {
        try (InputStream in = Front.class.getResourceAsStream("/VERSION")) {
            return in == null ? "?" : new String(in.readAllBytes(), StandardCharsets.UTF_8).strip();
        }
    }

    private String housekeeping(String caller) throws IOException {
        int count = housekeepings.incrementAndGet();
        String line = Instant.now() + " housekeeping " + count + ", asked by " + caller;
        System.out.println(line);
        String data = System.getenv("DATA_DIR");
        if (data != null) {
            Files.writeString(Path.of(data, "housekeeping.log"), line + "\n",
                    StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        }
        return line;
    }

    private static String jobs(String add, HttpServletResponse response) {
        String port = System.getenv().getOrDefault("JOB_MANAGER_PORT", "9000");
        try {
            return Outbound.ask("localhost", Integer.parseInt(port), add == null ? "LIST" : "ADD " + add);
        } catch (IOException e) {
            response.setStatus(HttpServletResponse.SC_BAD_GATEWAY);
            return "the job manager does not answer on port " + port + ": " + e.getMessage();
        }
    }

    /** Names only: the values may hold passwords. */
    private static String environment() {
        Map<String, String> sorted = new TreeMap<>(System.getenv());
        return "user " + System.getProperty("user.name") + "\npid " + ProcessHandle.current().pid()
                + "\nvariables " + String.join(" ", sorted.keySet());
    }
}
