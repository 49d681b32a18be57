import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * Runs SQL scripts, one after the other, in a Flink of this JVM alone: the wheel that carries Flink's jars has no SQL client that starts without its scripts.
 *
 * <p>Arguments: a script, the file that its result goes to ("-": none), the next script and so on. Statements end with a semicolon at the end of a
 * line. SET 'key' = 'value' configures. The last statement is waited for: rows of a SELECT are written to the file, one a line: the row kind, a
 * space, the row as a JSON object without its NULLs. If a script fails, the reason is written to its file with the suffix ".error", and the others go on.
 *
 * <p>Without arguments it reads scripts' names from standard input, one a line, runs each without a result and answers "done" or "failed": so the
 * same query can be measured again in a JVM that is warm.
 */
public final class RunSql {
    private static final Pattern SET = Pattern.compile("(?is)SET\\s+'([^']*)'\\s*=\\s*'([^']*)'");
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss.SSS");

    private RunSql() {}

    public static void main(String[] arguments) throws Exception {
        boolean failed = false;
        if (arguments.length == 0) {
            BufferedReader scripts = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String script = scripts.readLine(); script != null; script = scripts.readLine()) {
                try {
                    run(Files.readString(Path.of(script)), "-");
                    System.out.println("done");
                } catch (Exception error) {
                    failed = true;
                    error.printStackTrace();
                    System.out.println("failed");
                }
            }
        }
        for (int at = 0; at + 1 < arguments.length; at += 2) {
            try {
                run(Files.readString(Path.of(arguments[at])), arguments[at + 1]);
            } catch (Exception error) {
                failed = true;
                StringWriter text = new StringWriter();
                error.printStackTrace(new PrintWriter(text));
                if (arguments[at + 1].equals("-")) {
                    System.err.print(text);
                } else {
                    Files.writeString(Path.of(arguments[at + 1] + ".error"), text.toString());
                }
            }
        }
        // Threads of the cluster may be left that nothing waits for.
        System.exit(failed ? 1 : 0);
    }

    private static void run(String script, String result) throws Exception {
        Configuration configuration = new Configuration();
        List<String> statements = new ArrayList<>();
        for (String statement : script.replaceAll("(?m)^--.*$", "").split(";\\s*(?:\\n|$)")) {
            Matcher set = SET.matcher(statement.trim());
            if (set.matches()) {
                configuration.setString(set.group(1), set.group(2));
            } else if (!statement.isBlank()) {
                statements.add(statement);
            }
        }
        TableEnvironment tables =
                TableEnvironment.create(EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());
        TableResult last = null;
        for (String statement : statements) {
            last = tables.executeSql(statement);
        }
        if (result.equals("-")) {
            last.await();
            return;
        }
        List<String> names = last.getResolvedSchema().getColumnNames();
        try (BufferedWriter file = Files.newBufferedWriter(Path.of(result)); CloseableIterator<Row> rows = last.collect()) {
            while (rows.hasNext()) {
                Row row = rows.next();
                file.write(row.getKind().shortString());
                file.write(' ');
                file.write(json(names, row));
                file.newLine();
            }
        }
    }

    private static String json(List<String> names, Row row) {
        StringBuilder text = new StringBuilder("{");
        for (int column = 0; column < row.getArity(); column++) {
            Object value = row.getField(column);
            if (value != null) {
                text.append(text.length() == 1 ? "" : ",");
                write(names.get(column), text);
                text.append(':');
                write(value, text);
            }
        }
        return text.append('}').toString();
    }

    private static void write(Object value, StringBuilder text) {
        if (value instanceof BigDecimal) {
            text.append(((BigDecimal) value).toPlainString());
        } else if (value instanceof Number || value instanceof Boolean) {
            text.append(value);
        } else {
            String plain = value instanceof LocalDateTime ? TIME.format((LocalDateTime) value) : value.toString();
            text.append('"');
            for (char c : plain.toCharArray()) {
                if (c == '"' || c == '\\') {
                    text.append('\\').append(c);
                } else if (c < ' ') {
                    text.append(String.format("\\u%04x", (int) c));
                } else {
                    text.append(c);
                }
            }
            text.append('"');
        }
    }
}
