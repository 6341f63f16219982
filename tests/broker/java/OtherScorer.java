import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A scorer that is no Python: model.NAME -> scores, by row.schema.json and score.schema.json.
 *
 * <p>The score is the feature x plus the event's box.size; a negative x has none, and the reason is said. What is
 * past its deadline is left out. Offsets are committed once the scores are acknowledged.
 */
public final class OtherScorer {
    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        String pipeline = arguments[1];
        String name = arguments[2];
        String version = arguments[3];
        ObjectMapper json = new ObjectMapper();
        Map<String, Object> reading = Map.of(
                "bootstrap.servers", bootstrap,
                "group.id", pipeline + ".scorer." + name,
                "auto.offset.reset", "earliest",
                "enable.auto.commit", "false");
        Map<String, Object> writing = Map.of("bootstrap.servers", bootstrap, "acks", "all", "linger.ms", "0");
        try (KafkaConsumer<byte[], byte[]> rows =
                        new KafkaConsumer<>(reading, new ByteArrayDeserializer(), new ByteArrayDeserializer());
                KafkaProducer<byte[], byte[]> scores =
                        new KafkaProducer<>(writing, new ByteArraySerializer(), new ByteArraySerializer())) {
            rows.subscribe(List.of(pipeline + ".model." + name));
            while (true) {
                ConsumerRecords<byte[], byte[]> found = rows.poll(Duration.ofMillis(100));
                for (ConsumerRecord<byte[], byte[]> record : found) {
                    JsonNode row = json.readTree(record.value());
                    if (row.get("deadline_ms").asLong() <= System.currentTimeMillis()) {
                        continue;
                    }
                    ObjectNode score = json.createObjectNode();
                    score.put("model", row.get("model").asText());
                    score.put("version", version);
                    score.put("offset", row.get("offset").asLong());
                    double x = row.get("features").get(0).asDouble();
                    if (x < 0) {
                        score.put("error", "x is negative");
                    } else {
                        score.put("score", x + row.get("event").get("box").get("size").asDouble());
                    }
                    byte[] value = json.writeValueAsBytes(score);
                    scores.send(new ProducerRecord<>(pipeline + ".scores", record.partition(), null, value));
                }
                if (!found.isEmpty()) {
                    scores.flush();
                    rows.commitSync();
                }
            }
        }
    }
}
