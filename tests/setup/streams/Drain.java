import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;

/**
 * From topic to topic with Kafka Streams: what its documentation would have a user write, with Jackson for JSON. Runs until it is ended.
 *
 * <p>Arguments: brokers, topic read, topic written, "bids" (filter, some fields, one of them as another type) or "same" (values as they are),
 * a folder for state.
 */
public final class Drain {
    private Drain() {}

    /** What is read of a bid. */
    @JsonIgnoreProperties(ignoreUnknown = true)
    public static final class Bid {
        public long auction;
        public long bidder;
        public long price;
        public String channel;
        public String url;
    }

    /** What is written of it. */
    public static final class Priced {
        public long auction;
        public long bidder;
        public double price;
        public String channel;
        public String url;
    }

    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "drain-" + arguments[2]);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], byte[]> read = builder.stream(arguments[1], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()));
        if (arguments[3].equals("bids")) {
            ObjectReader reader = new ObjectMapper().readerFor(Bid.class);
            ObjectWriter writer = new ObjectMapper().writerFor(Priced.class);
            read.mapValues(value -> parse(reader, value))
                    .filter((key, bid) -> bid.price >= 1000)
                    .mapValues(bid -> write(writer, bid))
                    .to(arguments[2], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        } else {
            read.to(arguments[2], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static Bid parse(ObjectReader reader, byte[] value) {
        try {
            return reader.readValue(value);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static byte[] write(ObjectWriter writer, Bid bid) {
        Priced priced = new Priced();
        priced.auction = bid.auction;
        priced.bidder = bid.bidder;
        priced.price = bid.price * 0.908;
        priced.channel = bid.channel;
        priced.url = bid.url;
        try {
            return writer.writeValueAsBytes(priced);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
