import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Writes records as Java's client does, for tests of reading: {@code bootstrap topic compression from to}, to partition 0. It is never used otherwise. */
public final class Produce {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("compression.type", arguments[2]);
        properties.put("linger.ms", "500");
        properties.put("batch.size", "300000");
        for (String what : new String[] {"key", "value"}) {
            properties.put(what + ".serializer", "org.apache.kafka.common.serialization.StringSerializer");
        }
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties)) {
            for (long id = Long.parseLong(arguments[3]); id < Long.parseLong(arguments[4]); id++) {
                producer.send(new ProducerRecord<>(arguments[1], 0, "k", "{\"id\":" + id + ",\"name\":\"n" + id + "\"}"));
            }
        }
    }
}
