// What the proxy's own program does (org.apache.shardingsphere.proxy.Bootstrap, 5.1.0), but on loopback: that one listens on
// every address of the machine, and has no word for another.
import io.netty.bootstrap.ServerBootstrap
import org.apache.shardingsphere.proxy.config.ProxyConfigurationLoader
import org.apache.shardingsphere.proxy.frontend.ShardingSphereProxy
import org.apache.shardingsphere.proxy.initializer.BootstrapInitializer

def (folder, port) = [args[0], args[1] as int]
new BootstrapInitializer().init(ProxyConfigurationLoader.load(folder), port)
def proxy = new ShardingSphereProxy()
proxy.createEventLoopGroup()
def server = new ServerBootstrap()
proxy.initServerBootstrap(server)
proxy.accept(server.bind('127.0.0.1', port).sync())
