import java.nio.file.Files;
import java.nio.file.Path;
import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One OpenSearch node until the process is killed: {@code Node <directory> <address> <http port> <transport port>}. */
public final class Node {
    private Node() {
    }

    public static void main(final String[] args) throws Exception {
        final Path directory = Files.createDirectories(Path.of(args[0]));
        final OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("discovery.type", "single-node");
            settings.remove("discovery.seed_hosts");
            settings.remove("cluster.initial_cluster_manager_nodes");
            settings.put("network.host", args[1]);
            settings.put("http.port", args[2]);
            settings.put("transport.port", args[3]);
            settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
        });
        runner.build(OpenSearchRunner.newConfigs().basePath(directory.toString()).clusterName("millrace-tests").numOfNode(1).useLogger());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                runner.close();
            } catch (final Exception e) {
                e.printStackTrace();
            }
        }));
        Thread.currentThread().join();
    }
}
