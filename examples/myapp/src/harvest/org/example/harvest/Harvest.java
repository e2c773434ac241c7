package org.example.harvest;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;

/** The weekly job: notes in the data directory that it ran. */
public final class Harvest {
    private Harvest() {}

    public static void main(String[] args) throws IOException {
        String data = System.getenv().getOrDefault("DATA_DIR", ".");
        Path file = Path.of(data, "harvest.log");
        Files.writeString(file, Instant.now() + " harvested\n",
                StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        System.out.println("harvest: wrote " + file);
    }
}
