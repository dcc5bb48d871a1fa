-- Insert a few sample entries. Safe to run again: existing samples are not inserted twice.

INSERT INTO PROCESSING_QUEUE (data, reference, priority)
SELECT examples.data, examples.reference, examples.priority
  FROM (SELECT column1 AS data, column2 AS reference, column3 AS priority
          FROM VALUES
               ('{"type": "order", "payload": {"order": 1001, "amount": 25.90, "currency": "EUR"}}', 'sample-order-1001', 0),
               ('{"type": "order", "payload": {"order": 1002, "amount": 120.00, "currency": "CHF"}}', 'sample-order-1002', 0),
               ('{"type": "address_change", "payload": {"customer": 77, "city": "Zürich"}}', 'sample-address-77', 5),
               ('{"type": "cancellation", "payload": {"order": 998, "reason": "customer''s wish"}}', 'sample-cancel-998', 10),
               ('this is not JSON, so only this entry fails', 'sample-not-json', 0)) AS examples
  LEFT JOIN PROCESSING_QUEUE AS present
    ON present.reference = examples.reference
 WHERE present.id IS NULL;
