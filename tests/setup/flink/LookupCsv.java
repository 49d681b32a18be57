import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.LookupTableSource;
import org.apache.flink.table.connector.source.lookup.LookupFunctionProvider;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.LookupFunction;

/**
 * The table of Nexmark's query 13: a file of lines "key,value" that rows are looked up in by their key. The connector for files that comes with Flink 2.2 can only be
 * scanned, and none that can be looked up in comes with it.
 */
public final class LookupCsv implements DynamicTableSourceFactory {
    private static final ConfigOption<String> PATH = ConfigOptions.key("path").stringType().noDefaultValue();

    @Override
    public String factoryIdentifier() {
        return "lookup-csv";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(PATH);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of();
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        helper.validate();
        return new Source(helper.getOptions().get(PATH));
    }

    private static final class Source implements LookupTableSource {
        private final String path;

        Source(String path) {
            this.path = path;
        }

        @Override
        public LookupRuntimeProvider getLookupRuntimeProvider(LookupContext context) {
            if (context.getKeys().length != 1 || context.getKeys()[0].length != 1 || context.getKeys()[0][0] != 0) {
                throw new IllegalArgumentException("rows are looked up by the first column alone");
            }
            return LookupFunctionProvider.of(new Lookup(path));
        }

        @Override
        public DynamicTableSource copy() {
            return new Source(path);
        }

        @Override
        public String asSummaryString() {
            return "lines of " + path;
        }
    }

    /** Must be public: what Flink generates calls it. */
    public static final class Lookup extends LookupFunction {
        private final String path;
        private transient Map<Long, RowData> rows;

        Lookup(String path) {
            this.path = path;
        }

        @Override
        public void open(FunctionContext context) {
            rows = new HashMap<>();
            try {
                for (String line : Files.readAllLines(Path.of(path), StandardCharsets.UTF_8)) {
                    int comma = line.indexOf(',');
                    long key = Long.parseLong(line.substring(0, comma));
                    rows.put(key, GenericRowData.of(key, StringData.fromString(line.substring(comma + 1))));
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        @Override
        public Collection<RowData> lookup(RowData key) {
            RowData row = key.isNullAt(0) ? null : rows.get(key.getLong(0));
            return row == null ? List.of() : List.of(row);
        }
    }
}
