import org.apache.flink.table.functions.ScalarFunction;

/** How often a character occurs in a text: the function that Nexmark's query 14 brings along. */
public final class CountChar extends ScalarFunction {
    public Long eval(String text, String character) {
        if (text == null || character == null) {
            return null;
        }
        long count = 0;
        for (int at = 0; at < text.length(); at++) {
            if (text.charAt(at) == character.charAt(0)) {
                count++;
            }
        }
        return count;
    }
}
