"""Programs that use Sandcove as its users do. The tests run each of them."""
