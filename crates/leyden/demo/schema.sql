-- A coffee bar. Nothing in it is there for Leyden's sake.

CREATE TYPE order_status AS ENUM ('ordered', 'brewing', 'ready', 'collected', 'cancelled');

CREATE TABLE menu (
    id        int PRIMARY KEY,
    name      text NOT NULL,
    price     numeric(5, 2) NOT NULL,
    available boolean NOT NULL DEFAULT true
);

CREATE TABLE orders (
    id         bigint GENERATED ALWAYS AS IDENTITY (START 101) PRIMARY KEY,
    customer   text NOT NULL,
    summary    text NOT NULL,
    total      numeric(6, 2) NOT NULL,
    status     order_status NOT NULL DEFAULT 'ordered',
    ordered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE order_items (
    order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
    line     int NOT NULL,
    menu_id  int NOT NULL REFERENCES menu,
    quantity int NOT NULL,
    PRIMARY KEY (order_id, line)
);

INSERT INTO menu (id, name, price) VALUES
    (1, 'Espresso', 2.40),
    (2, 'Macchiato', 2.80),
    (3, 'Flat white', 3.60),
    (4, 'Cappuccino', 3.50),
    (5, 'Filter coffee', 2.90),
    (6, 'Cortado', 3.10),
    (7, 'Hot chocolate', 3.70),
    (8, 'Chai', 3.40),
    (9, 'Croissant', 2.60),
    (10, 'Cinnamon roll', 3.20),
    (11, 'Lemon cake', 3.30),
    (12, 'Cheese toastie', 5.40);
